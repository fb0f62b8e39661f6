"""The models of the provider: what each is called, what it takes, what it makes and costs. Pure.

All that differs between two models is here and in the schema of its job files. A stack runs one of them: `settings.py`
says which to the functions, `ops/stack.py` to the operator's commands.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MAX_IMAGES = 4
"""No model here makes more images of a request (provider's API pages)."""


@dataclass(frozen=True, repr=False, eq=False)  # what is generated for these takes time at each cold start
class ModelSpec:
    """One model of the provider.

    name: as the URL and the provider's history have it. schema: the schema of its job files, by its name in
    contract/schemas. image_fields: the fields of a request that hold the images, by "face" and "pose". first_price: USD
    a request before the first known cost.
    """

    name: str
    schema: str
    image_fields: Mapping[str, str]
    first_price: float

    @property
    def path(self) -> str:
        """The path of the URL that requests are sent to."""
        return f"/v2/{self.name}"

    def request(self, parameters: Mapping[str, Any], images: Mapping[str, str]) -> dict[str, Any]:
        """Return the body of a request; `images` are URLs or base64, by "face" and "pose"."""
        return {**parameters, **{self.image_fields[kind]: image for kind, image in images.items()}}

    def images_made(self, parameters: Mapping[str, Any]) -> int:
        """Return how many images a job with these parameters makes."""
        samples = parameters.get("samples", 1)
        return samples if isinstance(samples, int) and 1 <= samples <= MAX_IMAGES else 1

    def size_made(self, parameters: Mapping[str, Any]) -> float | None:
        """Return how large they are, as a power of two of a megapixel (2**20); None if as large as the pose."""
        width, height = (parameters.get(name, 1024) for name in ("custom_width", "custom_height"))
        known = isinstance(width, int) and isinstance(height, int) and width > 0 and height > 0
        if parameters.get("use_input_img_dimension", True) or not known:
            return None
        return math.log2(width * height / 2**20)


CONSISTENT_CHARACTER = ModelSpec(
    name="consistent-character-with-pose",
    schema="job",
    image_fields={"face": "face_image", "pose": "pose_image"},
    first_price=0.0294,  # the provider's average for this model, from its API page
)
MODELS = {model.name: model for model in (CONSISTENT_CHARACTER,)}
"""All models, by their names."""
