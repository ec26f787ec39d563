/** The options of a field that the dashboards set, so that Grafana's field configuration knows how to apply them. */

import {
  dataLinksOverrideProcessor,
  displayNameOverrideProcessor,
  identityOverrideProcessor,
  numberOverrideProcessor,
  standardEditorsRegistry,
  standardFieldConfigEditorRegistry,
  stringOverrideProcessor,
  thresholdsOverrideProcessor,
  unitOverrideProcessor,
  valueMappingsOverrideProcessor,
} from '@grafana/data';

const STANDARD = {
  unit: unitOverrideProcessor,
  min: numberOverrideProcessor,
  max: numberOverrideProcessor,
  decimals: numberOverrideProcessor,
  displayName: displayNameOverrideProcessor,
  color: identityOverrideProcessor,
  noValue: stringOverrideProcessor,
  links: dataLinksOverrideProcessor,
  mappings: valueMappingsOverrideProcessor,
  thresholds: thresholdsOverrideProcessor,
};

/** What Grafana's graph panel takes where a dashboard says nothing; its panels' code is where that stands. */
export const GRAPH = {
  drawStyle: 'line',
  lineInterpolation: 'linear',
  lineWidth: 1,
  lineStyle: { fill: 'solid' },
  fillOpacity: 0,
  gradientMode: 'none',
  barAlignment: 0,
  barWidthFactor: 0.6,
  showPoints: 'auto',
  pointSize: 5,
  spanNulls: false,
  stacking: { mode: 'none', group: 'A' },
  axisPlacement: 'auto',
  axisColorMode: 'text',
  axisLabel: '',
  axisSoftMin: undefined,
  axisSoftMax: undefined,
  scaleDistribution: { type: 'linear' },
  thresholdsStyle: { mode: 'off' },
  hideFrom: { tooltip: false, viz: false, legend: false },
};

export const TABLE = {
  align: 'auto',
  width: undefined,
  minWidth: 150,
  cellOptions: { type: 'auto' },
  filterable: false,
  inspect: false,
  footer: { reducers: [] },
};

const NO_EDITOR = () => null;

/** Must run before a panel is made. */
export function registerFieldOptions() {
  standardEditorsRegistry.setInit(() => []);
  standardFieldConfigEditorRegistry.setInit(() =>
    Object.entries(STANDARD).map(([id, process]) => ({ ...option(id), process }))
  );
}

function option(id) {
  return {
    id,
    path: id,
    name: id,
    description: '',
    editor: NO_EDITOR,
    override: NO_EDITOR,
    process: identityOverrideProcessor,
    shouldApply: () => true,
    category: [id],
  };
}

/** A panel's own options of a field, with what they are where nothing is said. */
export function customOptions(defaults) {
  return (builder) => {
    for (const [path, defaultValue] of Object.entries(defaults)) {
      builder.addCustomEditor({ ...option(path), category: ['panel'], defaultValue });
    }
  };
}
