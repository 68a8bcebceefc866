"""A finished stage without its work: a manifest of what lies in its folder."""

from pathlib import Path

from holdfast.core.manifest import Manifest, describe_products, write_manifest


def finish_stage(folder: Path, stage: str, materials: dict[str, str]) -> dict[str, str]:
    """Write the manifest; the digests of the products, as materials of later stages."""
    products = describe_products(folder)
    write_manifest(folder, Manifest(
        stage=stage, stage_version=1, key="sha256:0", config={}, materials=materials, products=products,
        environment={}, seed=1, started_at="", finished_at="", seconds=0,
    ))  # fmt: skip
    return {f"{stage}/{path}": product.digest for path, product in products.items()}
