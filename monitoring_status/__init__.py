from . import models
from .patches import post_load
