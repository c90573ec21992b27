"""Saves charts as SVG, PNG or JSON, by the file's ending."""

from __future__ import annotations

from pathlib import Path

import altair as alt
import vl_convert

from attattr_batch.errors import UserError
from attattr_batch.files import write_file

_PNG_SCALE = 2.0


def save_chart(chart: alt.TopLevelMixin, path: Path) -> None:
    """Writes a chart to `path`; `.json` gives its Vega-Lite specification.

    Raises:
        UserError: another ending, or the file cannot be written.
    """
    specification = chart.to_json()
    match path.suffix:
        case ".svg":
            content = vl_convert.vegalite_to_svg(specification).encode()
        case ".png":
            content = vl_convert.vegalite_to_png(specification, scale=_PNG_SCALE)
        case ".json":
            content = specification.encode()
        case _:
            raise UserError("pictures are saved by the file's ending", got=path, allowed=".svg, .png, .json")
    write_file(path, content)
