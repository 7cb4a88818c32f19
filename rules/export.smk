rule export:
    # the chosen model for simulation engines, and the proof that they agree with it
    input:
        mark("export"),
        ancient(needs("export")),
    output:
        LAYOUT.receipt("export"),
    log:
        LAYOUT.log("export"),
    conda:
        ENV
    threads: 1
    shell:
        "mace-lora export {PLAN:q} --threads {threads} > {log:q} 2>&1"


rule track:
    # MLflow filled from the files above; nothing else ever writes to it
    input:
        mark("track"),
        ancient(needs("track")),
    output:
        LAYOUT.receipt("track"),
    log:
        LAYOUT.log("track"),
    conda:
        ENV
    shell:
        "mace-lora track {PLAN:q} 2> {log:q}"
