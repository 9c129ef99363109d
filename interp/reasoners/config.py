"""`reasoner.json`: how a model thinks, kept beside its weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from interp.errors import UsageError, unknown
from interp.models.tokenizers import BEGIN, END, EOS, LATENT, PAUSE
from interp.runtime.plugins import plugins

FILE_NAME = "reasoner.json"
#: The `prompt` of a config that uses the model's own chat template.
CHAT = "chat"

#: The kinds of reasoner in this package. `interp.reasoners.registry` has their classes.
KINDS: dict[str, str] = {
    "direct": "answers straight after the question",
    "text": "writes its thought as text",
    "pause": "reads a learned pause token for each thought",
    "continuous": "feeds back the final-norm state of the position before",
    "thinking-tokens": "reads one special token for each step",
    "self-reasoning": "writes text with silent reasoning tokens in between",
    "recurrent": "iterates a block of layers at one position",
    "concepts": "predicts the embedding of each step's text",
}

# What each kind reads besides what all of them do. The defaults of these fields are assumptions about a model.
_READ_BY_ALL = ("begin", "end", "eos", "prompt", "bos", "max_answer_tokens")
_READ_BY_KIND: dict[str, tuple[str, ...]] = {
    "direct": (),
    "text": ("steps", "thoughts_per_step", "max_thought_tokens"),
    "pause": ("pause", "thoughts_per_step"),
    "continuous": ("latent", "latent_scale", "fed_back", "thoughts_per_step"),
    "thinking-tokens": ("thinking", "thoughts_per_step"),
    "self-reasoning": ("reasoning", "reasoning_tokens", "reasoning_read", "max_thought_tokens"),
    "recurrent": ("iterations", "thoughts_per_step"),
    "concepts": ("latent", "thoughts_per_step"),
}

_BOUNDS = ("max_thought_tokens",)  # of a kind that another package has


class ReasonerConfig(BaseModel):
    """Everything that turns a language model into a reasoner."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: str
    task: str | None = Field(None, description="the task that it was made for, as `chain:order=shuffled`")
    begin: str | None = Field(BEGIN, description="token after the question, before the first thought")
    end: str | None = Field(END, description="token after the last thought; the answer follows it")
    eos: str = Field(EOS, description="token after the answer; empty where the model has none")
    stops: tuple[str, ...] = Field((), description="further tokens or texts before which an answer ends")
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
    thoughts: int | None = Field(None, ge=0, description="number of thoughts; overrides thoughts_per_step")
    thinking: str | tuple[str, ...] = Field(
        "<CoT>({})",
        description="thinking token number k of a `thinking-tokens` reasoner, as a template, or all of them",
    )
    separator: str | None = Field(None, description="token that ends a step of visible reasoning")
    latent_scale: float = Field(1.0, gt=0, description="factor by which a continuous thought is scaled when fed back")
    projection: int | None = Field(None, ge=1, description="hidden width of a projection of continuous thoughts (CODI)")
    fed_back: Literal["state", "embedding"] = Field(
        "state",
        description="what a continuous thought is: the state before it, or the expected embedding of the next token",
    )
    reasoning: str = Field("<reason>({})", description="reasoning token number k of a `self-reasoning` reasoner")
    reasoning_tokens: int = Field(1, ge=0, description="number of reasoning tokens before each text token")
    reasoning_read: Literal["text", "reasoning"] = Field(
        "text", description="where the next text token is predicted: at the text token before it, or after reasoning"
    )
    recurrent: tuple[int, int] | None = Field(
        None, description="first and last + 1 layer of the block that is iterated"
    )
    iterations: int = Field(1, ge=1, description="number of iterations of that block")
    max_thought_tokens: int = Field(64, ge=1, description="longest visible reasoning")
    max_answer_tokens: int = Field(8, ge=1, description="longest answer")

    @field_validator("kind")
    @classmethod
    def _is_a_kind(cls, kind: str) -> str:
        known = known_kinds()
        if kind not in known:
            raise ValueError(str(unknown("kind of reasoner", kind, known)))
        return kind

    @field_validator("prompt")
    @classmethod
    def _has_place_for_question(cls, prompt: str) -> str:
        if prompt != CHAT and "{question}" not in prompt:
            raise ValueError(f"expected `{CHAT}` or a template with {{question}}, got {prompt!r}")
        return prompt

    @field_validator("thinking", "reasoning")
    @classmethod
    def _numbers_its_tokens(cls, template: str | tuple[str, ...]) -> str | tuple[str, ...]:
        if isinstance(template, str):
            try:
                template.format(1)
            except (LookupError, ValueError, AttributeError):
                raise ValueError(f"expected a template with one {{}} for the number, got {template!r}") from None
        return template

    @field_validator("stops")
    @classmethod
    def _stop_somewhere(cls, stops: tuple[str, ...]) -> tuple[str, ...]:
        if "" in stops:
            raise ValueError("expected tokens or texts that end an answer, got an empty text, which ends it at once")
        return stops

    @model_validator(mode="after")
    def _feeds_back_one_thing(self) -> ReasonerConfig:
        if self.fed_back == "embedding" and self.projection is not None:
            raise ValueError("expected fed_back `state` with a projection, got `embedding`, which is fed back as it is")
        return self

    def thinking_token(self, thought: int) -> str:
        """Return thinking token number `thought`, from 1.

        Raises:
            UsageError: The config names fewer tokens.
        """
        if isinstance(self.thinking, str):
            return self.thinking.format(thought)
        if not 1 <= thought <= len(self.thinking):
            raise UsageError(
                f"expected a thinking token for thought {thought}, got {len(self.thinking)} of them ({self.thinking[:3]}); "
                "name more in `thinking` of reasoner.json."
            )
        return self.thinking[thought - 1]

    def n_thoughts(self, n_steps: int) -> int:
        """Return the number of silent thoughts for a problem with `n_steps` gold steps."""
        return self.thoughts_per_step * n_steps if self.thoughts is None else self.thoughts

    def most_tokens(self, n_steps: int) -> int:
        """Return the most positions of thought and answer, for a problem with `n_steps` gold steps."""
        n_text = self.max_thought_tokens if "max_thought_tokens" in _READ_BY_KIND.get(self.kind, _BOUNDS) else 0
        between = self.reasoning_tokens if self.kind == "self-reasoning" else 0  # silent ones before each token
        return self.n_thoughts(n_steps) + n_text * (1 + between) + self.max_answer_tokens

    def assumed(self) -> dict[str, Any]:
        """Return the fields that were not given and whose defaults this kind thinks with, by name.

        A default of None, which changes nothing, is left out.
        """
        read = (*_READ_BY_ALL, *_READ_BY_KIND.get(self.kind, tuple(type(self).model_fields)))
        counts = self.thoughts is None and not (self.kind == "text" and (self.separator or self.steps == "text"))
        return {
            name: getattr(self, name)
            for name in dict.fromkeys(read)
            if name not in self.model_fields_set
            and getattr(self, name) is not None
            and (name != "thoughts_per_step" or counts)
        }

    def save(self, folder: Path) -> None:
        """Write `reasoner.json` into a model's folder."""
        text = self.model_dump_json(indent=2, exclude_defaults=False) + "\n"
        (folder / FILE_NAME).write_text(text, encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> ReasonerConfig | None:
        """Return the config beside a model's weights, or None where there is none.

        Raises:
            UsageError: The file does not describe a reasoner.
        """
        path = folder / FILE_NAME
        return cls.parse(path.read_text(encoding="utf-8"), str(path)) if path.exists() else None

    @classmethod
    def parse(cls, raw: str | dict, source: str) -> ReasonerConfig:
        """Return a config from JSON text or a dict of fields.

        Args:
            raw: The text or the fields.
            source: Where they come from, for messages.

        Raises:
            UsageError: A field is unknown, missing or wrong. The message names the first.
        """
        try:
            return cls.model_validate_json(raw) if isinstance(raw, str) else cls.model_validate(raw)
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(map(str, first["loc"])) or "the whole"
            raise UsageError(f"{source} does not describe a reasoner: {field}: {first['msg']}.") from None


def known_kinds() -> list[str]:
    """Return the kinds of reasoner that exist here: built in, or added by an installed package."""
    return [*KINDS, *plugins("reasoners")]
