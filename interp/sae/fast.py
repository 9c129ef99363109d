"""A TopK training SAE that computes only the k active features of each row.

It gives the results of SAELens's `TopKTrainingSAE`, is driven by SAELens's trainer and uses its format on disk. The k
values, the reconstruction and all gradients are products with sparse CSR matrices, firing is counted from indices, and
Adam is fused. On hardware with fast bfloat16 the k features are selected in bfloat16, and their values computed in
float32.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from sae_lens import SAETrainer, TopKTrainingSAE, TopKTrainingSAEConfig
from sae_lens.saes.sae import TrainStepInput, TrainStepOutput
from torch import Tensor, nn

from interp.runtime.hardware import fast_bfloat16
from interp.sae.top_k import top_k


@dataclass
class FastTopKTrainingSAEConfig(TopKTrainingSAEConfig):
    """SAELens's TopK configuration; `select_in_bfloat16=None` selects in bfloat16 wherever that is faster."""

    select_in_bfloat16: bool | None = None


class FastTopKTrainingSAE(TopKTrainingSAE):
    """Trains and saves as SAELens's `TopKTrainingSAE` does, several times faster.

    References:
        Gao et al., "Scaling and Evaluating Sparse Autoencoders", arXiv 2406.04093.
    """

    cfg: FastTopKTrainingSAEConfig
    W_enc: nn.Parameter

    def initialize_weights(self) -> None:
        """Initialise the weights as SAELens does, with the encoder stored by feature."""
        super().initialize_weights()
        # Gradients arrive by feature, so each feature is one row in memory; the shape stays d_in x d_sae.
        self.W_enc = nn.Parameter(self.W_enc.data.T.contiguous().T)

    def training_forward_pass(self, step_input: TrainStepInput) -> TrainStepOutput:
        """Return losses and reconstruction; `feature_acts` is a `Codes`, which `FastTrainer` counts."""
        centred = self.process_sae_in(step_input.sae_in).detach()
        sae_in = centred + self.b_dec.detach() * self.cfg.apply_b_dec_to_input
        indices = self.select(sae_in)
        sae_out, values = _SparseTopK.apply(
            sae_in, self.W_enc, self.b_enc, self.W_dec, self.b_dec, indices, self.cfg.apply_b_dec_to_input
        )
        mse_loss = self.mse_loss_fn(sae_out, step_input.sae_in).sum(dim=-1).mean()
        losses = {"mse_loss": mse_loss, "auxiliary_reconstruction_loss": self._dead_loss(step_input, sae_in, sae_out)}
        return TrainStepOutput(
            sae_in=step_input.sae_in,
            sae_out=sae_out,
            feature_acts=Codes(indices, values.detach()),  # type: ignore[arg-type]
            hidden_pre=values,
            loss=mse_loss + losses["auxiliary_reconstruction_loss"],
            losses=losses,
        )

    @torch.no_grad()
    def select(self, sae_in: Float[Tensor, "batch d_in"]) -> Int[Tensor, "batch k"]:
        """Return the k features of the highest pre-activation in each row, by rising index."""
        centred = sae_in - self.b_dec * self.cfg.apply_b_dec_to_input
        in_bfloat16 = self.cfg.select_in_bfloat16
        if fast_bfloat16(centred) if in_bfloat16 is None else in_bfloat16:
            pre = torch.mm(centred.bfloat16(), self.W_enc.bfloat16(), out=self._buffer(centred, torch.bfloat16))
        else:
            pre = torch.mm(centred, self.W_enc, out=self._buffer(centred, centred.dtype))
        pre += self.b_enc.to(pre.dtype)
        if self.cfg.rescale_acts_by_decoder_norm:
            pre *= self.W_dec.norm(dim=-1).to(pre.dtype)
        return top_k(pre, self.cfg.k).sort(dim=-1).values

    def _buffer(self, rows: Tensor, dtype: torch.dtype) -> Tensor:
        """Return memory for the pre-activations of these rows, the same at every step: new memory is slow to touch."""
        shape = (len(rows), self.cfg.d_sae)
        buffer = self.__dict__.get("_pre")
        if buffer is None or buffer.shape != shape or buffer.dtype != dtype or buffer.device != rows.device:
            buffer = self.__dict__["_pre"] = torch.empty(shape, dtype=dtype, device=rows.device)
        return buffer

    def _dead_loss(self, step_input: TrainStepInput, sae_in: Tensor, sae_out: Tensor) -> Tensor:
        """Return SAELens's auxiliary loss, computed for dead features only."""
        mask = step_input.dead_neuron_mask
        dead = mask.nonzero().flatten() if mask is not None else torch.empty(0, dtype=torch.long)
        if not len(dead):
            return sae_out.new_tensor(0.0)
        centred = sae_in - self.b_dec * self.cfg.apply_b_dec_to_input
        pre = centred @ self.W_enc[:, dead] + self.b_enc[dead]
        # The norm cancels in the values; it only decides which dead features are selected.
        norms = self.W_dec[dead].norm(dim=-1) if self.cfg.rescale_acts_by_decoder_norm else 1.0
        half = sae_in.shape[-1] // 2
        chosen = (pre * norms).topk(min(half, len(dead)), sorted=False).indices
        acts = torch.zeros_like(pre).scatter(-1, chosen, pre.gather(-1, chosen))
        residual = (step_input.sae_in - sae_out).detach()
        loss = (acts @ self.W_dec[dead] - residual).pow(2).sum(dim=-1).mean()
        return self.cfg.aux_loss_coefficient * min(len(dead) / half, 1.0) * loss

    def process_state_dict_for_saving(self, state_dict: dict[str, Any]) -> None:
        """Make the encoder contiguous, as safetensors needs it."""
        super().process_state_dict_for_saving(state_dict)
        state_dict["W_enc"] = state_dict["W_enc"].contiguous()


@dataclass(frozen=True)
class Codes:
    """Sparse feature activations: the indices of each row's k features, and their values after the ReLU."""

    indices: Int[Tensor, "batch k"]
    values: Float[Tensor, "batch k"]

    def fired(self, d_sae: int) -> Float[Tensor, " d_sae"]:
        """Return in how many rows each feature is above zero."""
        return torch.bincount(self.indices[self.values > 0], minlength=d_sae).to(self.values.dtype)


class FastTrainer(SAETrainer[Any, Any]):
    """SAELens's trainer with fused Adam, which counts firing from indices."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Make SAELens's trainer and fuse its optimizer."""
        super().__init__(*args, **kwargs)
        for group in self.optimizer.param_groups:
            group["fused"] = True
        self.optimizer.defaults["fused"] = True
        # Adam checks only in its constructor whether it can be fused; the schedule keeps its reference.
        self.optimizer.__init__(self.optimizer.param_groups, **self.optimizer.defaults)  # type: ignore[misc]

    def step(self, batch: Tensor) -> TrainStepOutput:
        """Make one update on a batch, shape (rows, d_in)."""
        batch = batch.to(self.sae.device)
        self.n_training_samples += batch.shape[0]
        self.sae.train()
        output = self.sae.training_forward_pass(
            TrainStepInput(
                sae_in=self.activation_scaler(batch),
                dead_neuron_mask=self.dead_neurons,
                coefficients=self.get_coefficients(),
                n_training_steps=self.n_training_steps,
                is_logging_step=False,
            )
        )
        fired = output.feature_acts.fired(self.sae.cfg.d_sae)
        self.n_forward_passes_since_fired += 1
        self.n_forward_passes_since_fired[fired > 0] = 0
        self.act_freq_scores += fired
        self.n_frac_active_samples += self.cfg.train_batch_size_samples
        output.loss.backward()
        torch.nn.utils.clip_grad_norm_(self.sae.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.lr_scheduler.step()
        return output


class _SparseTopK(torch.autograd.Function):
    """Reconstruction and values of selected features, with sparse gradients for the weights and none for the input."""

    @staticmethod
    def forward(
        ctx: Any,
        sae_in: Tensor,
        w_enc: Tensor,
        b_enc: Tensor,
        w_dec: Tensor,
        b_dec: Tensor,
        indices: Tensor,
        centre: bool,
    ) -> tuple[Tensor, Tensor]:
        centred = sae_in - b_dec if centre else sae_in
        pattern = _csr(indices, centred.new_zeros(indices.numel()), w_dec.shape[0])
        products = torch.sparse.sampled_addmm(pattern, centred, w_enc, beta=0.0).values()
        values = (products + b_enc[indices.flatten()]).relu_()
        sae_out = torch.addmm(b_dec.expand(len(sae_in), -1), _csr(indices, values, w_dec.shape[0]), w_dec)
        ctx.save_for_backward(centred, w_enc, w_dec, indices, values)
        ctx.centre = centre
        return sae_out, values.view(indices.shape)

    @staticmethod
    def backward(ctx: Any, out_grad: Tensor, values_grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        centred, w_enc, w_dec, indices, values = ctx.saved_tensors
        d_sae = w_dec.shape[0]
        out_grad = out_grad.contiguous()
        pattern = _csr(indices, torch.zeros_like(values), d_sae)
        pre_grad = torch.sparse.sampled_addmm(pattern, out_grad, w_dec.T, beta=0.0).values() + values_grad.flatten()
        pre_grad = pre_grad * (values > 0)
        by_feature, order = indices.flatten().to(torch.int32).sort(stable=True)
        starts = torch.zeros(d_sae + 1, dtype=torch.int64, device=indices.device)
        starts[1:] = torch.bincount(by_feature, minlength=d_sae).cumsum(0)
        rows = order // indices.shape[1]
        w_dec_grad = _csr_of(starts, rows, values[order], len(centred)) @ out_grad
        w_enc_grad = (_csr_of(starts, rows, pre_grad[order], len(centred)) @ centred).T
        b_enc_grad = pre_grad.new_zeros(d_sae).index_add_(0, indices.flatten(), pre_grad)
        b_dec_grad = out_grad.sum(0) - (w_enc @ b_enc_grad if ctx.centre else 0)
        return None, w_enc_grad, b_enc_grad, w_dec_grad, b_dec_grad, None, None


def _csr(indices: Tensor, values: Tensor, width: int) -> Tensor:
    """Return a batch x width CSR matrix with the same number of entries in every row."""
    k = indices.shape[1]
    starts = torch.arange(0, indices.numel() + 1, k, device=indices.device)
    return _csr_of(starts, indices.flatten(), values, width)


def _csr_of(starts: Tensor, columns: Tensor, values: Tensor, width: int) -> Tensor:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse", category=UserWarning)  # CSR is in beta
        return torch.sparse_csr_tensor(starts, columns, values, (len(starts) - 1, width), check_invariants=False)
