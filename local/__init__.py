"""The local stack: the real template on an AWS emulator, with an emulator of the provider, and the demo."""
