/** Draws one dashboard of this repository with Grafana's components. In: `?board=overview&from=…&to=…&var-slo=99.9`. */

import { GlobalStyles, PortalContainer } from '@grafana/ui';
import { createTheme, ThemeContext } from '@grafana/data';
import { config, locationService, LocationServiceProvider } from '@grafana/runtime';
import { createRoot } from 'react-dom/client';
import { Router } from 'react-router-dom';

import { registerFieldOptions } from './fields.js';
import { registerPanels } from './panels.jsx';
import { provideServices } from './services.js';
import { isDone, sceneOf } from './scene.js';
import './page.css';

async function start() {
  const asked = new URLSearchParams(window.location.search);
  config.theme2 = createTheme({ colors: { mode: 'dark' } });
  registerFieldOptions();
  await provideServices(asked.get('scrape') ?? '15s');
  registerPanels();
  const board = await (await fetch(`/boards/${asked.get('board')}.json`)).json();
  const scene = sceneOf(board, asked);
  // shoot.mjs waits for this.
  window.isDone = () => isDone(scene);
  createRoot(document.getElementById('page')).render(<Page board={board} scene={scene} />);
}

function Page({ board, scene }) {
  return (
    <ThemeContext.Provider value={config.theme2}>
      <GlobalStyles />
      <Router location={locationService.getLocation()} navigator={locationService.getHistory()}>
        <LocationServiceProvider service={locationService}>
          <h1>
            {board.title}
            <small>Grafana’s components, outside a Grafana server</small>
          </h1>
          <scene.Component model={scene} />
          <PortalContainer />
        </LocationServiceProvider>
      </Router>
    </ThemeContext.Provider>
  );
}

start();
