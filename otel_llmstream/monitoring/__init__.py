"""Dashboards, alert rules and runbooks, generated from the catalogue of metrics.

The input is `semconv` (metrics, attributes) and a `Flavour` (how a metrics store spells them). The output is text
files. This package does no network access, and the packages that observe streams do not import it.
"""

from ._dashboards import dashboard_files
from ._names import FLAVOURS, MIMIR, PROMETHEUS, UTF8, Flavour, Matcher

__all__ = ("FLAVOURS", "MIMIR", "PROMETHEUS", "UTF8", "Flavour", "Matcher", "dashboard_files")
