"""The settings of watching models: when a change of their scores, or of what people say of them, is an alarm."""

from pydantic import BaseModel, ConfigDict, Field


class Monitoring(BaseModel):
    """What `radnode.monitor` compares with what. A model's version is compared with its own first studies."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    reference_studies: int = Field(default=200, ge=20)  # the first of a version: all later ones are compared with them
    reference_rulings: int = Field(default=100, ge=10)  # the same for what people said of its findings
    window_days: float = Field(default=30.0, gt=0)  # the newest studies, for the population-stability index
    min_studies: int = Field(default=50, ge=10)  # fewer in the window: no index
    psi_limit: float = Field(default=0.2, gt=0)  # of the index; 0.1 is a small change, 0.25 a large one
    chance: float = Field(default=0.001, gt=0, lt=0.5)  # an index that chance alone exceeds this often is no alarm
    cusum_batch: int = Field(default=10, ge=1)  # studies whose mean score is one step of the cumulative sum
    cusum_slack: float = Field(default=0.5, ge=0)  # in standard deviations of a batch: what is no drift
    cusum_limit: float = Field(default=8.0, gt=0)  # in standard deviations of a batch
    ruling_odds: float = Field(
        default=2.0, gt=1
    )  # of a rejection or correction against the reference: what is to be found
    ruling_limit: float = Field(default=4.5, gt=0)  # of the cumulative sum of log-likelihood ratios
