rule track:
    # MLflow filled from the files above; nothing else ever writes to it
    input:
        errors=expand(rules.evaluate.output, pack=PACKS),
        proofs=expand(rules.merge.output, pack=PACKS),
        trainings=expand(rules.train.output, pack=TRAINED),
    output:
        f"{RESULTS}/track/runs.json",
    log:
        f"{RESULTS}/logs/track.log",
    conda:
        ENV
    params:
        results=subpath(output[0], ancestor=2),
        points=TRACKED,
        settings=as_flags(config["tracking"]),
        code=code_of("track"),
    shell:
        "mace-lora track {params.results:q} {params.settings} --points {params.points:q} 2> {log:q}"
