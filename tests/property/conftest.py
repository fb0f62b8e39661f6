"""What the property tests share with those of the pipeline."""

from tests.integration.conftest import environment, pipeline, provider

__all__ = ["environment", "pipeline", "provider"]
