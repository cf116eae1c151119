"""The web page: a person's own noisy picture, the learned diffusion beside the classic denoisers.

| file | what |
|---|---|
| page.py, wiring.py, tabs.py | what is where, and which callback an event calls |
| session.py | what one visitor has at hand: the picture, the noise, the results |
| pictures.py | uploads checked by content; exact PNGs for the browser; the true result for download |
| methods.py | the denoisers on offer, and how long they take |
| compare.py, removed.py, diffusion.py, inside.py, batch.py | the callbacks of each tab, plain functions |
| endpoints.py | the named functions for programs |
| server.py | how the page is served: limits, temporary files, no telemetry |
"""
