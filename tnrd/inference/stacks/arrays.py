"""Denoise Dask, Zarr and numpy arrays lazily: :func:`denoise_array`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tnrd.inference.stacks.errors import check_installed

if TYPE_CHECKING:
    import dask.array as da

    from tnrd.inference.stacks.sampling import Sigma


def denoise_array(
    array: Any,
    sigma: Sigma = None,
    *,
    noise: str = "gaussian",
    gain: float | None = None,
    read_noise: float | None = None,
    offset: float | None = None,
    span: float | None = None,
    model: str | Path = "default",
    strength: float = 1.0,
    channel_axis: int | None = None,
    min_chunk: int = 512,
    device: str = "auto",
    engine: str = "auto",
) -> da.Array:
    """Denoise a picture or a stack of pictures that need not fit into memory.

    The last two axes, the channels left aside, are a picture; every index of the axes before them is a picture of its
    own. The result equals that of each picture computed whole (:func:`tnrd.denoise`) to float rounding, whatever the
    chunks. Two differences in colour: "fast", "default" and "best" mean the grey models, in luminance and chrominance,
    and a picture is denoised as colour even where its channels are equal, since a block cannot know the others; pass a
    grey picture that is stored as colour by one of its channels.

    Gaussian noise is denoised as by :func:`tnrd.denoise`, given the same ``span``: that of a plane whose noise is
    estimated by itself, else that of the widest of eight planes, spread evenly over the stack.

    Photon noise is denoised as by :func:`tnrd.denoise_photon_noise`, given the same ``white``: that of a plane whose
    noise is estimated by itself, else that of the brightest of eight planes.

    Nothing is computed now but the noise and the span with ``sigma=None``, and, of photon noise, what the samples of
    the planes tell, since it decides on binning, and so on the halo. With a given sigma the span is measured in every
    computation that needs it: give it, too, to compute a result part by part. Any scheduler of Dask computes the rest.
    The model is loaded once in each process, by name and hash; a path has to be readable there. Threads of one
    process take turns in the compiled kernels, each of which uses all cores that torch is allowed
    (``OMP_NUM_THREADS``, which Dask's workers set to 1): give workers one thread each.

    Args:
        array: A Dask array, a Zarr array, or what ``dask.array.from_array`` takes; uint8, uint16, int16 or floats.
            Integers are scaled as scikit-image's ``img_as_float`` does, floats are nominally in [0, 1].
        sigma: Standard deviation of the noise on the [0, 1] scale, whatever the dtype. None: estimated once, from
            the plane in the middle. "per-plane": estimated for each plane when it is computed. One number; or one a
            plane, of the shape of the leading axes; for colour also one a channel, in a last axis of 3. Estimates
            read whole planes up to 1024 x 1024, and evenly spread blocks of larger ones. Of photon noise None, or
            "per-plane" to estimate it in each plane, now, for which all planes are read.
        noise: "gaussian"; "correlated", see :class:`tnrd.inference.noise_model.NoiseModel`; or "poisson-gaussian",
            photon and read noise: var(f) = gain (u - offset) + read_noise^2.
        gain: Of photon noise: the signal of one photon on the [0, 1] scale; None to estimate it together with the
            others: once, now, from the plane in the middle, or see ``sigma``.
        read_noise: Of photon noise: standard deviation at black on that scale; 0 when only ``gain`` is given.
        offset: Of photon noise: intensity of black on that scale, which stays in the result; 0 likewise.
        span: Of Gaussian noise: see :func:`tnrd.denoise`; None to measure it, with "per-plane" in each plane.
        model: A name or a path, see :func:`tnrd.denoise`.
        strength: See :func:`tnrd.denoise`.
        channel_axis: The axis of the colours (length 3, or 1); None for grey. Channels that are no colours, such as a
            microscope's dyes, are planes: leave them among the leading axes.
        min_chunk: Chunks are merged until their sides in the picture reach this, and at least the halo. A block of
            side c computes (c + 2 halo)^2 pixels, with a halo of 36 pixels for the default model, and about twice
            that each time that the picture is binned 2 x 2 for want of photons.
        device: See :func:`tnrd.denoise`; chosen by each worker.
        engine: See :func:`tnrd.denoise`.

    Returns:
        A lazy array of the shape of ``array``: integers rounded and clipped to their own range, floats as
        float32. About 30 bytes of memory per pixel of a block are in use while it is computed.

    Raises:
        ValueError: An argument is out of range, or the array's shape or dtype does not fit. When computed: values
            that are not finite, a noise estimate out of range, or weights, device or engine that cannot be used.
        TypeError: ``model`` is a loaded model.
        ImportError: The extra ``bigimage`` is not installed.

    Example:
        >>> import dask.array as da
        >>> stack = da.random.default_rng(0).normal(0.5, 0.1, (4, 64, 64), chunks=(1, 64, 64))
        >>> float(denoise_array(stack, sigma=0.1).std()) < 0.05
        True
    """
    check_installed()
    from tnrd.inference.noise_model import NoiseModel
    from tnrd.inference.stacks.blocks import lazily
    from tnrd.inference.stacks.sampling import StackNoiseModel

    assumed = StackNoiseModel(sigma, NoiseModel(noise, gain=gain, read_noise=read_noise, offset=offset), span)
    return lazily(array, assumed, model, strength, channel_axis, min_chunk, device, engine)
