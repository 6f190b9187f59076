import { defineConfig } from "vite";

export default defineConfig({
  // Relative addresses: the page works in any folder of a server.
  base: "./",
  build: {
    target: "es2022",
    // No data: addresses, so that the page runs under a Content-Security-Policy of 'self'.
    assetsInlineLimit: 0,
  },
  worker: { format: "es" },
});
