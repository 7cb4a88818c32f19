"""The colours of figures and charts."""

# Okabe and Ito's, told apart by colour-blind readers too
COLOURS = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#999999", "#F0E442"]
GREY = COLOURS[6]
CHOSEN = COLOURS[5]
METHODS = {  # each method has its colour in every figure, in the dashboard and in MLflow
    "lora": COLOURS[0],
    "lora_replay": COLOURS[4],
    "lora_keep": "#332288",  # these three are Tol's, as the last of the adapters
    "dora": COLOURS[2],
    "dora_replay": "#66C5AB",  # as of lora, the same hue and lighter
    "dora_keep": "#117733",
    "sparse": "#882255",  # this and the last are Tol's, to go with the others
    "sparse_replay": "#C77B9F",
    "sparse_keep": "#AA4499",
    "full": "#000000",
    "full_replay": COLOURS[1],
    "freeze": COLOURS[3],
    "foundation": "#7F7F7F",
}
OTHER = "#999933"  # of a kind of adapter that is not named above
