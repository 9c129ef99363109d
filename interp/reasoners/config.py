"""`reasoner.json`: how a model thinks, kept beside its weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from interp.errors import UsageError, unknown
from interp.models.tokenizers import BEGIN, END, EOS, LATENT, PAUSE

FILE_NAME = "reasoner.json"


class ReasonerConfig(BaseModel):
    """Everything that turns a language model into a reasoner."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: str
    task: str | None = Field(None, description="the task that it was made for, as `chain:order=shuffled`")
    begin: str | None = Field(BEGIN, description="token after the question, before the first thought")
    end: str | None = Field(END, description="token after the last thought; the answer follows it")
    eos: str = Field(EOS, description="token after the answer; empty where the model has none")
    stops: tuple[str, ...] = Field((), description="further tokens before which an answer ends, or texts after which")
    prompt: str = Field("{question}", description="template around {question}, or `chat` for the model's chat template")
    system: str | None = Field(None, description="system message of the chat template")
    chat_options: dict[str, Any] = Field({}, description="options of the chat template, as {'enable_thinking': true}")
    bos: bool = Field(False, description="whether the tokenizer's beginning-of-sequence token comes first")
    steps: Literal["count", "text"] = Field(
        "count",
        description="steps of a visible thought: by number of tokens (or `separator`), or from what the text says",
    )
    pause: str = Field(PAUSE, description="token that a `pause` reasoner thinks with")
    latent: str = Field(LATENT, description="placeholder that marks a continuous thought among token ids")
    thoughts_per_step: int = Field(1, ge=1, description="thoughts for each gold step of a problem")
    thoughts: int | None = Field(None, ge=0, description="thoughts in all; overrides thoughts_per_step")
    thinking: str = Field("<CoT>({})", description="thinking token number k of a `thinking-tokens` reasoner")
    separator: str | None = Field(None, description="token that ends a step of visible reasoning")
    latent_scale: float = Field(1.0, gt=0, description="a continuous thought is fed back times this")
    projection: int | None = Field(None, ge=1, description="hidden width of a projection of continuous thoughts (CODI)")
    reasoning: str = Field("<reason>({})", description="reasoning token number k of a `self-reasoning` reasoner")
    reasoning_tokens: int = Field(1, ge=0, description="how many of them stand before each text token")
    reasoning_read: Literal["text", "reasoning"] = Field(
        "text", description="where the next text token is predicted: at the text token before it, or after reasoning"
    )
    recurrent: tuple[int, int] | None = Field(
        None, description="first and last + 1 layer of the block that is iterated"
    )
    iterations: int = Field(1, ge=1, description="how often that block is iterated")
    max_thought_tokens: int = Field(64, ge=1, description="longest visible reasoning")
    max_answer_tokens: int = Field(8, ge=1, description="longest answer")

    @field_validator("kind")
    @classmethod
    def _known(cls, kind: str) -> str:
        from interp.reasoners import REASONERS

        if kind not in REASONERS:
            raise ValueError(str(unknown("kind of reasoner", kind, REASONERS)))
        return kind

    @field_validator("prompt")
    @classmethod
    def _has_place(cls, prompt: str) -> str:
        if prompt != "chat" and "{question}" not in prompt:
            raise ValueError(f"it must be `chat` or hold {{question}}, but {prompt!r} came")
        return prompt

    def n_thoughts(self, n_steps: int) -> int:
        return self.thoughts_per_step * n_steps if self.thoughts is None else self.thoughts

    def save(self, folder: Path) -> None:
        (folder / FILE_NAME).write_text(self.model_dump_json(indent=2, exclude_defaults=False) + "\n")

    @classmethod
    def read(cls, folder: Path) -> ReasonerConfig | None:
        """The config beside a model's weights, or None where there is none."""
        path = folder / FILE_NAME
        return cls.parse(path.read_text(), str(path)) if path.exists() else None

    @classmethod
    def parse(cls, raw: str | dict, source: str) -> ReasonerConfig:
        try:
            return cls.model_validate_json(raw) if isinstance(raw, str) else cls.model_validate(raw)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"])) or "the whole"
            raise UsageError(f"{source} does not describe a reasoner: {place}: {first['msg']}.") from None
