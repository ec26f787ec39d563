/** The field options that the dashboards set. Grafana's field configuration needs them to apply the options. */

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

/** The defaults of Grafana's graph panel for options that a dashboard does not set. They come from the panel's code. */
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

/** Must run before a panel is created. */
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

/** A panel's custom field options with their defaults. */
export function customOptions(defaults) {
  return (builder) => {
    for (const [path, defaultValue] of Object.entries(defaults)) {
      builder.addCustomEditor({ ...option(path), category: ['panel'], defaultValue });
    }
  };
}
