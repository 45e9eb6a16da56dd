"""Tiny UNet2DModels with random weights, and what the tests of the consistency pipelines do with them."""

import diffusers
import torch
from diffusers import UNet2DModel

LADDER = {
    "block_out_channels": (32, 64),
    "layers_per_block": 1,
    "attention_head_dim": 8,
    "down_block_types": ("ResnetDownsampleBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "ResnetUpsampleBlock2D"),
    "resnet_time_scale_shift": "scale_shift",
    "norm_num_groups": 8,
    "attn_norm_num_groups": 8,
    "upsample_type": "resnet",
    "downsample_type": "resnet",
}


def unet(size=16, channels: int = 3, classes: int | None = None) -> UNet2DModel:
    torch.manual_seed(0)
    return UNet2DModel(
        sample_size=size, in_channels=channels, out_channels=channels, num_class_embeds=classes, **LADDER
    ).eval()


def pipe_of(kind: type, scheduler: type = diffusers.CMStochasticIterativeScheduler, **options):
    """A pipeline of the given class without a progress bar."""
    pipe = kind(unet=unet(**options), scheduler=scheduler())
    pipe.set_progress_bar_config(disable=True)
    return pipe


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(*shape: int, seed: int = 7) -> torch.Tensor:
    return torch.randn(shape, generator=seeded(seed))


def jump(net: UNet2DModel, x: torch.Tensor, t: float, labels: torch.Tensor | None = None) -> torch.Tensor:
    """The clipped consistency function (Song et al. 2023, appendix C), written out for diffusers' UNet."""
    sigma_data, t_min = 0.5, 0.002
    told = torch.full((len(x),), 250 * torch.tensor(t, dtype=torch.float64).log().item(), dtype=torch.float64)
    raw = net(x / (t**2 + sigma_data**2) ** 0.5, told, class_labels=labels).sample
    skip = sigma_data**2 / ((t - t_min) ** 2 + sigma_data**2)
    out = sigma_data * (t - t_min) / (t**2 + sigma_data**2) ** 0.5
    return (skip * x + out * raw).clamp(-1, 1)


def loop(net: UNet2DModel, x: torch.Tensor, times, draws, correct=lambda x_0: x_0, labels=None) -> torch.Tensor:
    """Algorithms 1 and 4, written out: x is noisy at times[0], draws[i] is the noise before call i + 1."""
    for i, t in enumerate(times):
        if i:
            x = x_0 + (t**2 - 0.002**2) ** 0.5 * draws[i - 1]
        with torch.no_grad():
            x_0 = correct(jump(net, x, t, labels))
    return x_0


class Memory(UNet2DModel):
    """The best denoiser of a few pictures, E[x_0 | x_t] among them, in the place of a trained network."""

    known: torch.Tensor

    def forward(self, sample, timestep, class_labels=None, return_dict=True):
        t = (timestep.double() / 250).exp()[:, None, None, None]
        total = (t**2 + 0.25) ** 0.5
        x = sample.double() * total
        distance = (x[:, None] - self.known.double()).pow(2).sum((2, 3, 4))
        best = (-distance / (2 * t[:, :, 0, 0] ** 2)).softmax(1)
        x_0 = torch.einsum("nk,kchw->nchw", best, self.known.double())
        skip, out = 0.25 / ((t - 0.002) ** 2 + 0.25), 0.5 * (t - 0.002) / total
        return (((x_0 - skip * x) / out).to(sample.dtype),)


def memory_of(kind: type, known: torch.Tensor):
    """A pipeline whose model knows these pictures (k, C, H, W) in [-1, 1] and nothing else."""
    net = Memory(sample_size=tuple(known.shape[2:]), in_channels=known.shape[1], out_channels=known.shape[1], **LADDER)
    net.known = known
    pipe = kind(unet=net, scheduler=diffusers.CMStochasticIterativeScheduler())
    pipe.set_progress_bar_config(disable=True)
    return pipe
