// The build: static files for the server to embed. Nothing is inlined, so that a strict content security policy holds.
import { defineConfig } from 'vite';

/** Where `npm run dev` sends API calls: the mock server, or a real one (`LUCARNE_SERVER=https://localhost:8443`). */
const server = process.env['LUCARNE_SERVER'] ?? 'http://127.0.0.1:5180';

export default defineConfig({
  esbuild: { jsx: 'automatic', jsxImportSource: 'preact' },
  build: {
    target: 'es2022', // noVNC awaits at the top level of a module
    assetsInlineLimit: 0, // no data: addresses in the output
    sourcemap: false,
    chunkSizeWarningLimit: 400,
  },
  server: {
    proxy: { '/api': { target: server, ws: true, secure: false, changeOrigin: true } },
  },
});
