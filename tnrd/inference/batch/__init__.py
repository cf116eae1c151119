"""Many files: :func:`tnrd.denoise_files`, the engine of ``tnrd-denoise IN_DIR OUT_DIR``.

| module | what it holds |
|---|---|
| sources | finding the pictures in folders, by patterns, from lists |
| shards | which of them are the part of this process |
| plan | which file becomes which; collisions and writes among the inputs are refused |
| occupancy | who else writes into the output folder, and the leftovers of runs that were killed |
| manifest | what was done, a line a file |
| bench | what is done with one file |
| pipeline | reading, denoising and writing beside each other |
| run | all of it in one call |
| merge | the manifests of all shards in one, and what is missing |
"""
