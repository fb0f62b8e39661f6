"""The provider's models: the name, parameters, outputs and price of each. Pure.

Everything that differs between two models is here and in the schema of its job files. A stack runs one model:
`settings.py` selects it for the functions, `ops/template.py` for the operator's commands.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MAX_IMAGES = 4
"""The most images that a request makes, with any model here (provider's API pages)."""


@dataclass(frozen=True, repr=False, eq=False)  # generating these methods slows each cold start
class ModelSpec:
    """One model of the provider.

    - name: as in the URL and in the provider's history.
    - schema: the name of its job file schema in contract/schemas.
    - image_fields: the request's fields for the images, by "face" and "pose".
    - first_price: the assumed price of a request (USD) until the first real cost is known.
    """

    name: str
    schema: str
    image_fields: Mapping[str, str]
    first_price: float

    @property
    def path(self) -> str:
        """The URL path for its requests."""
        return f"/v2/{self.name}"

    def request(self, parameters: Mapping[str, Any], images: Mapping[str, str]) -> dict[str, Any]:
        """Return the body of a request. `images` are URLs or base64, by "face" and "pose"."""
        return {**parameters, **{self.image_fields[kind]: image for kind, image in images.items()}}

    def images_made(self, parameters: Mapping[str, Any]) -> int:
        """Return how many images a job with these parameters makes."""
        samples = parameters.get("samples", 1)
        return samples if isinstance(samples, int) and 1 <= samples <= MAX_IMAGES else 1

    def size_made(self, parameters: Mapping[str, Any]) -> float | None:
        """Return the images' size as log2 of megapixels (2**20 pixels), or None if they are as large as the pose."""
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
