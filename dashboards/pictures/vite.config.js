import { cpSync } from 'node:fs';
import { join } from 'node:path';

import react from '@vitejs/plugin-react';
import { defineConfig } from 'vite';

const here = import.meta.dirname;
const boards = join(here, '..', 'grafana');

/** Copies the icons that @grafana/ui loads by URL, and the committed dashboards, to the build output. */
const copyAssets = {
  name: 'copy-assets',
  closeBundle() {
    cpSync(join(here, 'node_modules/@grafana/ui/dist/public'), join(here, 'dist/public/build'), { recursive: true });
    cpSync(boards, join(here, 'dist/boards'), { recursive: true });
  },
};

export default defineConfig({
  appType: 'mpa',
  plugins: [react(), copyAssets],
  define: {
    'process.env': {},
    'process.platform': '"browser"',
  },
  build: {
    chunkSizeWarningLimit: 100_000,
    // Grafana's packages import names from each other that exist only in the build of a Grafana server.
    rollupOptions: { shimMissingExports: true, onwarn() {} },
  },
  preview: {
    host: '127.0.0.1',
    strictPort: true,
    proxy: { '/prometheus': { target: process.env.PROMETHEUS, rewrite: (path) => path.replace('/prometheus', '') } },
  },
});
