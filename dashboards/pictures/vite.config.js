import { cpSync } from 'node:fs';
import { join } from 'node:path';

import react from '@vitejs/plugin-react';
import { defineConfig } from 'vite';

const here = import.meta.dirname;
const boards = join(here, '..', 'grafana');

/** Beside the page: the icons that @grafana/ui asks for by address, and the dashboards as they are committed. */
const beside = {
  name: 'beside',
  closeBundle() {
    cpSync(join(here, 'node_modules/@grafana/ui/dist/public'), join(here, 'dist/public/build'), { recursive: true });
    cpSync(boards, join(here, 'dist/boards'), { recursive: true });
  },
};

export default defineConfig({
  appType: 'mpa',
  plugins: [react(), beside],
  define: {
    'process.env': {},
    'process.platform': '"browser"',
  },
  build: {
    chunkSizeWarningLimit: 100_000,
    // Grafana's packages name exports of each other that only a Grafana server's own build has.
    rollupOptions: { shimMissingExports: true, onwarn() {} },
  },
  preview: {
    host: '127.0.0.1',
    strictPort: true,
    proxy: { '/prometheus': { target: process.env.PROMETHEUS, rewrite: (path) => path.replace('/prometheus', '') } },
  },
});
