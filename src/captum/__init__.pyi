# The names of captum for type checkers; at run time each is loaded on first use.
from captum import attr as attr
from captum import concept as concept
from captum import errors as errors
from captum import influence as influence
from captum import linear as linear
from captum import log as log
from captum import metrics as metrics
from captum import module as module
from captum import robust as robust
from captum.attr.explaining import explain as explain
from captum.attr.explanation import Explanation as Explanation

__version__: str
