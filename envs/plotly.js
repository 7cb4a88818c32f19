// Write lora/report/plotly.min.js.gz: of plotly.js what the dashboard draws with, a third of the whole.
//
//     npm install plotly.js@4.1.1 esbuild esbuild-plugin-glsl esbuild-plugin-environment \
//         esbuild-plugin-inline-css stream-browserify
//     node envs/plotly.js     # in the folder with node_modules/; then move the file
//
// It is plotly.js's "custom bundle", with lines of our own in parallel coordinates.  Chrome shows no page of over 1.5 MB inside of Snakemake's report.
// The version is that of the pinned plotly of Python (plotly.offline.get_plotlyjs_version()).

const { gzipSync } = require("zlib");
const { readFileSync, writeFileSync } = require("fs");
const { join } = require("path");
const from = name => require(require.resolve(name, { paths: [process.cwd()] }));
const { environmentPlugin } = from("esbuild-plugin-environment");
const { glsl } = from("esbuild-plugin-glsl");
const inlineCss = from("esbuild-plugin-inline-css");

const contents = `
    var Plotly = require("plotly.js/lib/core");
    Plotly.register([require("plotly.js/lib/parcoords"), require("plotly.js/lib/scatter3d")]);
    module.exports = Plotly;`;

// parallel coordinates want no WebGL
const lines = readFileSync(join(__dirname, "plotly_lines.js"), "utf8");
const OURS = { "parcoords[/]lines.js": lines, "lib[/]prepare_regl.js": "module.exports = () => true;" };
const ours = {
    name: "ours",
    setup: build => Object.entries(OURS).forEach(([end, contents]) =>
        build.onLoad({ filter: RegExp(`${end}$`) }, () => ({ contents }))),
};

const NOTICE = `/*! plotly.js v${from("plotly.js/package.json").version} | Copyright Plotly, Inc. | MIT License,`
    + " its parcoords/lines.js replaced, https://github.com/plotly/plotly.js/blob/master/LICENSE */";

from("esbuild").build({
    stdin: { contents, resolveDir: process.cwd() },
    format: "iife", globalName: "Plotly", bundle: true, minify: true, target: "es2016",
    plugins: [ours, inlineCss(), glsl({ minify: true }), environmentPlugin({ NODE_DEBUG: false })],
    alias: { stream: "stream-browserify" },
    define: { global: "window", "define.amd": "false" },
    banner: { js: NOTICE }, legalComments: "eof", write: false,
}).then(made => writeFileSync("plotly.min.js.gz", gzipSync(made.outputFiles[0].contents, { level: 9 })));
