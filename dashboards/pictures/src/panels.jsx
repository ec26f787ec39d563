/** Panels by type: Grafana's published components, and placeholders for types that Grafana has not published. */

import {
  cacheFieldDisplayNames,
  getDisplayValueAlignmentFactors,
  getFieldDisplayValues,
  PanelPlugin,
  renderMarkdown,
  VizOrientation,
} from '@grafana/data';
import { config } from '@grafana/runtime';
import { sceneUtils } from '@grafana/scenes';
import { BarGauge, BigValue, TimeSeries, VizRepeater } from '@grafana/ui';
import { TableNG } from '@grafana/ui/unstable';

import KINDS from '../panels.json';
import { customOptions, GRAPH, TABLE } from './fields.js';

const DRAWN = { timeseries: [Graph, GRAPH], stat: [Stat], bargauge: [Bars], table: [Lines, TABLE], text: [Text] };

/** Register every type of panels.json. */
export function registerPanels() {
  for (const [pluginId, [component, custom = {}]] of Object.entries(DRAWN)) {
    const plugin = new PanelPlugin(component);
    plugin.useFieldConfig({ useCustomConfig: customOptions(custom) });
    sceneUtils.registerRuntimePanelPlugin({ pluginId, plugin });
  }
  const placeholder = new PanelPlugin(Placeholder);
  sceneUtils.registerRuntimePanelPlugin({ pluginId: PLACEHOLDER, plugin: placeholder });
}

/** The panel for types that cannot be drawn. Its options are the type and the reason. */
export const PLACEHOLDER = 'placeholder';

/** The plugin that draws a panel of a dashboard, and its options: `{ pluginId, options }`. */
export function drawnBy({ type, options, datasource }) {
  const source = datasource?.type;
  if (type in KINDS.placeholders) {
    return missing(type, KINDS.placeholders[type]);
  }
  if (!(type in KINDS.drawn)) {
    throw new Error(`panels.json does not say what to do with a panel of type ${type}`);
  }
  return source in KINDS.absent ? missing(`${type}, from ${source}`, KINDS.absent[source]) : { pluginId: type, options };
}

function missing(what, why) {
  return { pluginId: PLACEHOLDER, options: { what, why } };
}

function Placeholder({ options }) {
  return (
    <div className="placeholder">
      <b>In Grafana: {options.what}</b>
      <span>Not drawn here: {options.why}</span>
    </div>
  );
}

function Graph({ data, width, height, timeRange, timeZone, options, fieldConfig }) {
  if (!data.series.length) {
    return <div className="placeholder">{fieldConfig.defaults.noValue}</div>;
  }
  return (
    <TimeSeries
      frames={data.series}
      structureRev={data.structureRev}
      width={width}
      height={height}
      timeRange={timeRange}
      timeZone={timeZone}
      legend={options.legend}
      options={options}
    />
  );
}

function displayed({ data, options, fieldConfig, replaceVariables, timeZone }) {
  return getFieldDisplayValues({
    fieldConfig,
    reduceOptions: options.reduceOptions,
    replaceVariables,
    theme: config.theme2,
    data: data.series,
    timeZone,
  });
}

function Stat(props) {
  const { options } = props;
  return (
    <VizRepeater
      getValues={() => displayed(props)}
      renderValue={({ value, width, height }) => (
        <BigValue
          value={value.display}
          width={width}
          height={height}
          colorMode={options.colorMode}
          graphMode={options.graphMode}
          justifyMode={options.justifyMode}
          textMode={options.textMode}
          theme={config.theme2}
        />
      )}
      width={props.width}
      height={props.height}
      source={props.data}
      renderCounter={props.renderCounter}
      orientation={VizOrientation.Auto}
      autoGrid
    />
  );
}

function Bars(props) {
  const { options } = props;
  return (
    <VizRepeater
      getValues={() => displayed(props)}
      getAlignmentFactors={getDisplayValueAlignmentFactors}
      renderValue={({ value, width, height, orientation, alignmentFactors }) => (
        <BarGauge
          value={value.display}
          field={value.field}
          display={value.view?.getFieldDisplayProcessor(value.colIndex)}
          width={width}
          height={height}
          orientation={orientation}
          alignmentFactors={alignmentFactors}
          displayMode={options.displayMode}
          showUnfilled={options.showUnfilled}
          valueDisplayMode={options.valueMode}
          namePlacement={options.namePlacement}
          itemSpacing={10}
          theme={config.theme2}
        />
      )}
      width={props.width}
      height={props.height}
      minVizWidth={options.minVizWidth}
      minVizHeight={options.minVizHeight}
      maxVizHeight={options.maxVizHeight}
      itemSpacing={10}
      source={props.data}
      renderCounter={props.renderCounter}
      orientation={options.orientation}
    />
  );
}

function Lines({ data, options, fieldConfig, width, height, timeRange }) {
  const [frame] = data.series;
  if (!frame?.length) {
    return <div className="placeholder">{fieldConfig.defaults.noValue}</div>;
  }
  cacheFieldDisplayNames(data.series);
  return (
    <TableNG
      data={frame}
      width={width}
      height={height}
      timeRange={timeRange}
      sortBy={options.sortBy}
      sortByBehavior="initial"
      cellHeight={options.cellHeight}
      noHeader={!options.showHeader}
      fieldConfig={fieldConfig}
      structureRev={data.structureRev}
    />
  );
}

function Text({ options }) {
  return <div className="markdown-html" dangerouslySetInnerHTML={{ __html: renderMarkdown(options.content) }} />;
}
