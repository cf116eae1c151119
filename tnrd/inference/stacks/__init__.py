"""Stacks and pictures larger than memory: :func:`denoise_array` for arrays, :func:`denoise_volume` for files.

A picture is the last two axes, or those named Y and X; every index of the other axes is a picture of its own. The
work is cut into blocks that see a halo around them and are scheduled by Dask. Needs the extra ``bigimage``.
"""
