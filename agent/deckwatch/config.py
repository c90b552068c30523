"""(stub, being written)"""
from pydantic import BaseModel, ConfigDict

class Settings(BaseModel):
    """What every part of the config is made of: frozen, and an unknown key is an error."""
    model_config = ConfigDict(frozen=True, extra="forbid")

Duration = float
Size = int
