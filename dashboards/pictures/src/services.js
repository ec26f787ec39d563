/** Services that a Grafana server provides to its components: data sources, query execution, events, translations. */

import { EventBusSrv, LoadingState, standardTransformers, standardTransformersRegistry } from '@grafana/data';
import { initPluginTranslations } from '@grafana/i18n';
import { setAppEvents, setDataSourceSrv, setPluginImportUtils, setRunRequest } from '@grafana/runtime';
import { catchError, map, of, startWith } from 'rxjs';

import { absent as ABSENT } from '../panels.json';
import { PrometheusSource } from './prometheus.js';
import { configFromData } from './transformers.js';

/**
 * Must run before anything is drawn.
 *
 * @param {string} scrape the scrape interval, as in the settings of a data source
 */
export async function provideServices(scrape) {
  const source = new PrometheusSource(scrape);
  setDataSourceSrv({
    get: async () => source,
    getList: ({ pluginId }) => [pluginId in ABSENT ? { name: 'none here', uid: 'none', meta: {} } : source.instanceSettings],
    getInstanceSettings: () => source.instanceSettings,
    reload: async () => {},
    registerRuntimeDataSource: () => {},
  });
  setRunRequest(runRequest);
  // All panels are registered in the scenes library.
  setPluginImportUtils({
    getPanelPluginFromCache: () => undefined,
    importPanelPlugin: async (id) => Promise.reject(new Error(`no panel of type ${id}`)),
  });
  setAppEvents(new EventBusSrv());
  standardTransformersRegistry.setInit(transformers);
  await Promise.all(['grafana', 'grafana-scenes', '@grafana/ui'].map((id) => initPluginTranslations(id)));
}

/** A data source's response or error, in the format of panel data. */
function runRequest(source, request) {
  const common = { timeRange: request.range, request };
  return source.query(request).pipe(
    map(({ data }) => ({ ...common, state: LoadingState.Done, series: data })),
    catchError((error) => {
      console.error(error);
      return of({ ...common, state: LoadingState.Error, series: [], errors: [{ message: String(error) }] });
    }),
    startWith({ ...common, state: LoadingState.Loading, series: [] })
  );
}

function transformers() {
  const found = new Map([...Object.values(standardTransformers), configFromData].map((it) => [it.id, it]));
  return [...found.values()].map((it) => ({ id: it.id, name: it.name, transformation: async () => it }));
}
