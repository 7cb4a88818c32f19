rule track:
    # MLflow filled from the files above; nothing else ever writes to it
    input:
        errors=expand(rules.evaluate.output, pack=PACKS),
        proofs=expand(rules.merge.output, pack=PACKS),
        trainings=expand(rules.train.output, pack=TRAINED),
        checks=expand(rules.check.output, pack=PACKS) if CHECKED else [],
        best=rules.report.output.best,
        figures=rules.figures.output,
    output:
        f"{RESULTS}/track/runs.json",
    log:
        f"{RESULTS}/logs/track.log",
    conda:
        ENV
    params:
        results=subpath(output[0], ancestor=2),
        points=TRACKED,
        settings=as_flags({k: v for k, v in config["tracking"].items() if k != "live"}),
        missed=tracks_missed(),  # so that what a store did not take is done the next time
        code=code_of("track"),
    shell:
        "mace-lora track {params.results:q} {params.settings} --or_later"
        " --points {params.points:q} 2> {log:q}"
