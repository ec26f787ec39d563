"""What watches the telemetry: dashboards and alert rules, written from the catalogue.

One way: `semconv` (metrics, attributes) and a `Flavour` (how a store spells them) go in, text files come out. Nothing
here talks to anything, and nothing of the observing part knows of it.
"""

from ._dashboards import dashboard_files
from ._names import FLAVOURS, MIMIR, PROMETHEUS, UTF8, Flavour, Matcher

__all__ = ("FLAVOURS", "MIMIR", "PROMETHEUS", "UTF8", "Flavour", "Matcher", "dashboard_files")
