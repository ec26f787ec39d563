/** Transformations that only a Grafana server has. In: the frames of a panel's queries. Out: changed frames. */

import { FieldType } from '@grafana/data';
import { map } from 'rxjs';

/** "Config from query results", as far as the dashboards use it: the last value of a query becomes a number's maximum. */
export const configFromData = {
  id: 'configFromData',
  name: 'Config from query results',
  operator: (options) => (source) => source.pipe(map((frames) => configured(frames, options))),
};

function configured(frames, { configRefId, mappings: [{ handlerKey }] }) {
  const config = frames.find(({ refId }) => refId === configRefId);
  if (!config) {
    return frames;
  }
  if (handlerKey !== 'max') {
    throw new Error(`not imitated: ${handlerKey}`);
  }
  const max = config.fields.find(({ type }) => type === FieldType.number).values.at(-1);
  return frames.filter((it) => it !== config).map((frame) => ({ ...frame, fields: frame.fields.map(limited) }));

  function limited(field) {
    return field.type === FieldType.number ? { ...field, config: { ...field.config, max } } : field;
  }
}
