"""The settings of report texts: their language, and the language model that may rewrite them."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class Narrative(BaseModel):
    """Without `url` no language model is asked and nothing leaves the node. api_key: "file:PATH" or "env:NAME"."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    language: Literal["en", "zh-TW"] = "en"  # of drafted texts; a person may choose the other for one report
    url: Annotated[str, Field(pattern=r"^(https?://.+)?$")] = ""  # of an OpenAI-compatible server, up to /v1
    model: str = ""  # as that server names it
    api_key: str = ""
    timeout_s: float = Field(default=60.0, gt=0)  # for one whole answer
    attempts: int = Field(default=3, ge=1)  # where it does not answer
    retry_s: float = Field(default=30.0, gt=0)  # doubled on each attempt
    examples: int = Field(default=3, ge=0, le=10)  # similar past cases in the prompt, without anything of a patient
