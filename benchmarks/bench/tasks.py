"""All tasks by name."""

from __future__ import annotations

from benchmarks.bench.task import Task
from benchmarks.bench.tasks_games import GAME_TASKS
from benchmarks.bench.tasks_mode import MODE_TASKS
from benchmarks.bench.tasks_paths import PATH_TASKS
from benchmarks.bench.tasks_rules import RULE_TASKS

TASKS: dict[str, Task] = {task.name: task for task in (*PATH_TASKS, *RULE_TASKS, *MODE_TASKS, *GAME_TASKS)}
