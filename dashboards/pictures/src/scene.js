/** A dashboard's JSON as a scene: its variables, its rows and panels with positions, its queries. */

import { LoadingState } from '@grafana/data';
import {
  CustomVariable,
  DataSourceVariable,
  EmbeddedScene,
  QueryVariable,
  SceneDataTransformer,
  sceneGraph,
  SceneGridItem,
  SceneGridLayout,
  SceneGridRow,
  SceneQueryRunner,
  SceneTimePicker,
  SceneTimeRange,
  SceneVariableSet,
  SceneControlsSpacer,
  TextBoxVariable,
  VariableValueSelectors,
  VizPanel,
} from '@grafana/scenes';

import { drawnBy, PLACEHOLDER } from './panels.jsx';

/**
 * @param {object} board the dashboard
 * @param {URLSearchParams} asked the URL's parameters: `from`, `to` (ISO 8601 or relative, such as `now-1h`), `var-NAME`
 */
export function sceneOf(board, asked) {
  return new EmbeddedScene({
    $timeRange: new SceneTimeRange({
      from: asked.get('from') ?? board.time.from,
      to: asked.get('to') ?? board.time.to,
      timeZone: 'utc',
    }),
    $variables: new SceneVariableSet({
      variables: board.templating.list.map((it) => variable(it, asked.get(`var-${it.name}`))),
    }),
    controls: [new VariableValueSelectors({}), new SceneControlsSpacer(), new SceneTimePicker({})],
    body: new SceneGridLayout({ isDraggable: false, isResizable: false, children: children(board.panels) }),
  });
}

/** Whether every variable and every query has a result. Queries of collapsed rows are not run. */
export function isDone(scene) {
  const runners = sceneGraph.findAllObjects(scene, (it) => it instanceof SceneQueryRunner && it.isActive);
  const states = runners.map(({ state }) => state.data?.state);
  const variables = scene.state.$variables;
  return (
    runners.length > 0 &&
    !variables.state.variables.some((it) => it.state.loading) &&
    states.every((it) => it === LoadingState.Done || it === LoadingState.Error)
  );
}

// --- variables --------------------------------------------------------------------------------------------------

function variable({ type, name, label, query, current, includeAll, multi, allValue, datasource, sort }, chosen) {
  const value = chosen ?? current.value;
  const common = { name, label, value, text: chosen ?? current.text };
  switch (type) {
    case 'datasource':
      return new DataSourceVariable({ ...common, pluginId: query });
    case 'query':
      return new QueryVariable({ ...common, query, datasource, includeAll, isMulti: multi, allValue, sort, refresh: 2 });
    case 'custom':
      return new CustomVariable({ ...common, query: chosen ? `${query},${chosen}` : query });
    case 'textbox':
      return new TextBoxVariable({ ...common });
    default:
      throw new Error(`no variable of type ${type}`);
  }
}

// --- panels -----------------------------------------------------------------------------------------------------

/** Rows that contain their panels, as the grid requires. In a dashboard's JSON, panels follow their row. */
function children(panels) {
  const rows = [];
  for (const panel of panels) {
    if (panel.type === 'row') {
      const { x, y } = panel.gridPos;
      const inside = panel.panels.map(item);
      rows.push(
        new SceneGridRow({ key: key(panel), title: panel.title, isCollapsed: panel.collapsed, x, y, children: inside })
      );
    } else {
      rows.at(-1).state.children.push(item(panel));
    }
  }
  return rows;
}

function item(panel) {
  const { x, y, w, h } = panel.gridPos;
  return new SceneGridItem({ key: `item-${panel.id}`, x, y, width: w, height: h, body: viz(panel) });
}

function viz(panel) {
  const { pluginId, options } = drawnBy(panel);
  return new VizPanel({
    key: key(panel),
    title: panel.title,
    description: panel.description,
    pluginId,
    options,
    fieldConfig: panel.fieldConfig ?? { defaults: {}, overrides: [] },
    pluginVersion: panel.pluginVersion,
    $data: pluginId === PLACEHOLDER || !panel.targets ? undefined : data(panel),
  });
}

function data({ datasource, targets, transformations }) {
  const runner = new SceneQueryRunner({ datasource, queries: targets, maxDataPointsFromWidth: true });
  return transformations ? new SceneDataTransformer({ $data: runner, transformations }) : runner;
}

function key({ id }) {
  return `panel-${id}`;
}
