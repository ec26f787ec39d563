/** A Prometheus data source. Steps, intervals, names and tables are those of Grafana's own data source. */

import { createDataFrame, FieldType, rangeUtil } from '@grafana/data';
import { sceneGraph } from '@grafana/scenes';
import { from } from 'rxjs';

const MOST_POINTS = 11_000; // Prometheus's limit of points per series

export class PrometheusSource {
  type = 'prometheus';
  name = 'Prometheus';
  uid = 'prometheus';
  meta = { id: 'prometheus', name: 'Prometheus', info: { logos: { small: '', large: '' } } };

  /** @param {string} scrape the scrape interval, such as `15s` */
  constructor(scrape) {
    this.interval = scrape;
    this.instanceSettings = {
      uid: this.uid,
      type: this.type,
      name: this.name,
      meta: this.meta,
      isDefault: true,
      readOnly: true,
      jsonData: {},
      access: 'proxy',
    };
  }

  getRef() {
    return { type: this.type, uid: this.uid };
  }

  query(request) {
    return from(this.answers(request).then((data) => ({ data })));
  }

  async answers(request) {
    const single = request.targets.length === 1;
    const all = await Promise.all(request.targets.map((target) => this.answer(request, target, single)));
    return all.flat();
  }

  async answer(request, target, single) {
    const { range, scopedVars } = request;
    const step = this.step(range, request.intervalMs);
    const expr = interpolated(target.expr, { ...scopedVars, ...this.intervals(range, step) });
    const seconds = (time) => time.valueOf() / 1000;
    const aligned = (time) => Math.floor(seconds(time) / step) * step;
    const result = target.instant
      ? await ask('query', { query: expr, time: seconds(range.to) })
      : await ask('query_range', { query: expr, start: aligned(range.from), end: aligned(range.to), step });
    const series = result.result.map(({ metric, value, values }) => ({ labels: metric, points: values ?? [value] }));
    return target.format === 'table' ? table(series, target, single) : series.map((it) => line(it, target, step));
  }

  step(range, intervalMs) {
    const seconds = (range.to.valueOf() - range.from.valueOf()) / 1000;
    return Math.max(intervalMs / 1000, rangeUtil.intervalToSeconds(this.interval), Math.ceil(seconds / MOST_POINTS));
  }

  /** The macros of Grafana's Prometheus data source. */
  intervals(range, step) {
    const scrape = rangeUtil.intervalToSeconds(this.interval);
    const rate = `${Math.max(step + scrape, 4 * scrape)}s`;
    const whole = Math.round((range.to.valueOf() - range.from.valueOf()) / 1000);
    return {
      __rate_interval: { text: rate, value: rate },
      __range: { text: `${whole}s`, value: `${whole}s` },
      __range_s: { text: `${whole}`, value: whole },
    };
  }

  /** Values of a variable with the query `label_values(selector, label)`. */
  async metricFindQuery(query, { range, scopedVars }) {
    const [, selector, label] = /^label_values\((.*),\s*([^,]+)\)$/s.exec(query);
    const [start, end] = [range.from.valueOf() / 1000, range.to.valueOf() / 1000];
    const values = await ask(`label/${label}/values`, { 'match[]': interpolated(selector, scopedVars), start, end });
    return values.map((text) => ({ text, value: text }));
  }
}

async function ask(path, parameters) {
  const answer = await fetch(`/prometheus/api/v1/${path}?${new URLSearchParams(parameters)}`);
  const body = await answer.json();
  if (body.status !== 'success') {
    throw new Error(`${body.error}: ${JSON.stringify(parameters)}`);
  }
  return body.data;
}

/** Text with the variables' values in Grafana's format for PromQL: several values are a regex alternative, escaped. */
function interpolated(text, scopedVars) {
  const scene = scopedVars.__sceneObject.value.valueOf();
  return sceneGraph.interpolate(scene, text, scopedVars, (value) =>
    Array.isArray(value) ? (value.length === 1 ? escaped(value[0]) : `(${value.map(escaped).join('|')})`) : value
  );
}

function escaped(value) {
  return String(value).replace(/[\\^$.*+?()[\]{}|]/g, '\\\\$&').replace(/"/g, '\\"');
}

/** One series as a frame. Its interval makes a graph leave a gap if a point is missing. */
function line({ labels, points }, target, step) {
  const name = legend(target.legendFormat, labels);
  return createDataFrame({
    refId: target.refId,
    name,
    fields: [
      { name: 'Time', type: FieldType.time, values: points.map(([time]) => time * 1000), config: { interval: step * 1000 } },
      {
        name: 'Value',
        type: FieldType.number,
        values: points.map(([, value]) => number(value)),
        labels,
        config: { displayNameFromDS: name },
      },
    ],
  });
}

/** All series of one query as the rows of one frame. */
function table(series, target, single) {
  const names = [...new Set(series.flatMap(({ labels }) => Object.keys(labels)))].sort();
  const column = (name, type, of) => ({ name, type, values: series.map(of), config: {} });
  return [
    createDataFrame({
      refId: target.refId,
      fields: [
        column('Time', FieldType.time, ({ points }) => points[0][0] * 1000),
        ...names.map((name) => column(name, FieldType.string, ({ labels }) => labels[name] ?? '')),
        column(single ? 'Value' : `Value #${target.refId}`, FieldType.number, ({ points }) => number(points[0][1])),
      ],
    }),
  ];
}

function legend(format, labels) {
  if (format && format !== '__auto') {
    return format.replace(/\{\{\s*(.+?)\s*\}\}/g, (_, label) => labels[label] ?? '');
  }
  const pairs = Object.entries(labels).filter(([name]) => name !== '__name__');
  return `${labels.__name__ ?? ''}{${pairs.map(([name, value]) => `${name}="${value}"`).join(', ')}}`;
}

function number(text) {
  return text === '+Inf' ? Infinity : text === '-Inf' ? -Infinity : Number(text);
}
