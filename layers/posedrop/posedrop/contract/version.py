"""The version of posedrop. pyproject.toml, template.yaml and the changelog repeat it; a test fails if they disagree."""

VERSION = "0.1.0"
USER_AGENT = f"posedrop/{VERSION}"
"""The User-Agent of all HTTP requests: to the provider and to the hosts of its outputs."""
