"""An emulator of Segmind's API for `consistent-character-with-pose`, which misbehaves on request.

`python -m local.segmind --port 9000` starts it; `local.segmind.server.Emulator` runs it inside a test. Its responses
follow the provider's API page, its public documentation and the official SDK 1.3.0. `faults.py` documents how it can
misbehave. It draws real pictures from the two images, and counts its calls (`control.py`). A prompt that contains
`blocked-content` is blocked, as by the provider's responsible AI.
"""
