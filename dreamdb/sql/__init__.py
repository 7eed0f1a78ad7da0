"""SQL over the datasets of a space; needs the extra ``sql``."""

from dreamdb.sql.database import Database
from dreamdb.sql.embedders import sentence_transformer
from dreamdb.sql.result import Result

__all__ = ["Database", "Result", "sentence_transformer"]
