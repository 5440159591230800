"""The style sheet of pages and notebook cells; every rule is inside ``.captum``, so a host page keeps its own."""

from __future__ import annotations

__all__ = ["STYLE"]

STYLE = """
.captum{--ink:#1d2126;--soft:#555e69;--line:#d4d7dc;--back:#fff;--card:#f6f7f8;--link:#1a5fa0;
font:16px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--back);color-scheme:light}
@media (prefers-color-scheme:dark){.captum{--ink:#e7e9ec;--soft:#a9b1bb;--line:#3b424b;--back:#15181c;--card:#1e2228;
--link:#7db8ee;color-scheme:dark}}
body.captum{margin:0}
div.captum{padding:0 1rem;border-radius:6px}
.captum main{max-width:64rem;margin:0 auto;padding:1.5rem 1rem 3rem}
.captum h1{font-size:1.7rem;line-height:1.2;margin:0 0 1rem}
.captum h2{font-size:1.25rem;margin:0 0 .25rem}
.captum section{border-top:1px solid var(--line);padding:1.5rem 0 1rem}
div.captum section{border-top:0;padding:1rem 0 .5rem}
.captum .meaning{color:var(--soft);margin:0 0 .75rem}
.captum nav ul{display:flex;flex-wrap:wrap;gap:.25rem 1rem;list-style:none;padding:0;margin:0 0 1rem}
.captum a{color:var(--link)}
.captum a:focus-visible,.captum summary:focus-visible{outline:2px solid var(--link);outline-offset:2px}
.captum dl{display:flex;flex-wrap:wrap;gap:.5rem 2rem;margin:0 0 1rem}
.captum dl div{min-width:0}
.captum dt{color:var(--soft);font-size:.8rem}
.captum dd{margin:0;overflow-wrap:anywhere;font-variant-numeric:tabular-nums}
.captum .tables{display:flex;flex-wrap:wrap;gap:1rem 2rem}
.captum table{border-collapse:collapse;font-size:.9rem;margin:0 0 1rem;background:none;color:inherit}
.captum caption{text-align:left;color:var(--soft);font-size:.8rem;padding:0}
.captum th,.captum td{padding:.2rem .9rem .2rem 0;border-bottom:1px solid var(--line);text-align:left;font-weight:400;
background:none;color:inherit;vertical-align:top;overflow-wrap:anywhere}
.captum thead th{color:var(--soft);font-size:.8rem}
.captum td{font-variant-numeric:tabular-nums;text-align:right;white-space:nowrap}
.captum thead th:not(:first-child){text-align:right}
.captum figure{margin:0 0 1rem}
.captum img{max-width:100%;height:auto;background:#fff;border-radius:6px}
.captum figcaption,.captum .more,.captum footer{color:var(--soft);font-size:.85rem}
.captum .tokens{background:var(--card);border-radius:6px;padding:.75rem;margin:0 0 .25rem;line-height:2;
white-space:pre-wrap;overflow-wrap:anywhere}
.captum .tokens bdi{padding:.1rem .15rem;border-radius:3px}
.captum summary{cursor:pointer;color:var(--link)}
.captum details table{margin-top:.5rem}
.captum .notes{color:var(--soft);font-size:.9rem;padding-left:1.2rem}
@media (forced-colors:active){.captum .tokens bdi{forced-color-adjust:none}}
@media print{.captum{background:#fff;color:#000}.captum section{break-inside:avoid}}
""".strip()
