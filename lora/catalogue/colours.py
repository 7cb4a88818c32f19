"""The colours of figures and charts."""

# Okabe and Ito's, told apart by colour-blind readers too
COLOURS = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#999999", "#F0E442"]
GREY = COLOURS[6]
