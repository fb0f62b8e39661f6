"""An emulator of Segmind's API for `consistent-character-with-pose`, which misbehaves on request.

`python -m local.segmind --port 9000` starts it; `local.segmind.server.Emulator` runs it inside a test. What it answers
follows the provider's API page, its public documentation and the official SDK 1.3.0; how it can misbehave is said in
`faults.py`. It draws real pictures from the two images, and keeps count of what it was asked (`control.py`). A prompt
that holds `blocked-content` is blocked, as by the provider's responsible AI.
"""
