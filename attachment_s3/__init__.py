from . import models
from .post_load import post_load
