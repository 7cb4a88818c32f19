// Draw the lines of parallel coordinates on canvases of two dimensions, in place of the WebGL of
// plotly.js's src/traces/parcoords/lines.js; envs/plotly.js puts it there.
//
// Without a GPU that WebGL takes seconds to begin with, and some machines have none at all.  Some
// thousand lines, as a sweep has points, need none.

const APART = 4; // CSS pixels, up to which a line is under the mouse

module.exports = function (canvas, layer) {
    const pen = canvas.getContext("2d");
    let model, dims, order, shown = []; // shown: the panels that were drawn last

    function update({ model: newModel, viewModel }) {
        model = newModel;
        dims = viewModel.dimensions.slice();
        const color = model.lines.color;
        order = Array.from(color.keys()).sort((a, b) => color[a] - color[b]); // the highest on top
    }

    const lies = (value, [low, high]) => low <= value && value <= high;

    // whether what is kept on the axes keeps a line; bounds that are no range keep all
    const kept = i => layer.context || dims.every(({ paddedUnitValues, brush }) => {
        const [low, high] = brush.filter.getBounds(), ranges = brush.filter.get();
        return low >= high || ranges.some(range => lies(paddedUnitValues[i], range));
    });

    // CSS pixels of a panel, from the left and the top
    function box(panel) {
        const { pad, layoutWidth, layoutHeight, domain } = model;
        const left = pad.l + layoutWidth * domain.x[0] + panel.canvasX;
        const base = canvas.clientHeight - pad.b - layoutHeight * domain.y[0] - panel.canvasY;
        const of = dim => dims[dim.crossfilterDimensionIndex].paddedUnitValues;
        const [from, to] = [of(panel.dim0), of(panel.dim1)];
        const y = (values, i) => base - values[i] * panel.panelSizeY;
        return { left, right: left + panel.panelSizeX, from: i => y(from, i), to: i => y(to, i) };
    }

    function colour(i) {
        if (!layer.context) return `rgb(${model.unitToColor(model.lines.color[i]).join()})`;
        const [r, g, b, a] = model.deselectedLines.color, { opacity } = model.deselectedLines;
        const faint = opacity === "auto" ? (1 / model.lines.color.length) ** (1 / 3) : a * opacity;
        return `rgba(${[r, g, b].map(x => 255 * x)},${Math.max(1 / 255, faint)})`;
    }

    function render(panels, setChanged, clearOnly) {
        shown = panels.map(box).sort((a, b) => a.left - b.left);
        if (layer.pick) return;
        pen.setTransform(1, 0, 0, 1, 0, 0);
        pen.clearRect(0, 0, canvas.width, canvas.height);
        if (clearOnly) return;
        const ratio = canvas.width / (canvas.clientWidth || canvas.width);
        pen.scale(ratio, ratio);
        pen.lineWidth = 1;
        for (const i of order) if (kept(i)) {
            pen.strokeStyle = colour(i);
            pen.beginPath();
            for (const panel of shown) {
                pen.moveTo(panel.left, panel.from(i));
                pen.lineTo(panel.right, panel.to(i));
            }
            pen.stroke();
        }
    }

    // the line under the mouse as a colour, as parcoords.js wants it; y counts from below
    function readPixel(x, fromBelow) {
        const y = canvas.height - 1 - fromBelow, panel = shown.find(p => lies(x, [p.left, p.right]));
        let found = -1, least = APART;
        for (const i of panel ? order : []) if (kept(i)) {
            const part = (x - panel.left) / (panel.right - panel.left);
            const apart = Math.abs((1 - part) * panel.from(i) + part * panel.to(i) - y);
            if (apart <= least) [found, least] = [i, apart];
        }
        return found < 0 ? [0, 0, 0, 0] : [found >> 16, (found >> 8) & 255, found & 255, 255];
    }

    const destroy = () => { canvas.style["pointer-events"] = "none"; };
    update(layer);
    return { render, readPixel, readPixels: () => new Uint8Array(0), destroy, update };
};
