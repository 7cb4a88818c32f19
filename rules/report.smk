# The pages of the report; `lora/report` has a module for each, of the same name.


rule committee:
    # the LoRA points as an ensemble: does their spread follow their error?
    input:
        mark("report", "committee"),
        needs("report", "committee"),
    output:
        LAYOUT.receipt("report", "committee"),
        report(
            LAYOUT.figure("committee"),
            caption="../workflow/report/committee.rst",
            category="Errors",
            labels={"what": "spread of the committee"},
        ),
    log:
        LAYOUT.log("report", "committee"),
    localrule: True
    conda:
        ENV
    params:
        plan=PLAN,
    shell:
        "mace-lora report {params.plan:q} committee 2> {log:q}"


rule summary:
    # what won and by how much, every point, every check
    input:
        mark("report", "summary"),
        needs("report", "summary"),
    output:
        LAYOUT.receipt("report", "summary"),
        report(
            LAYOUT.report("choice.html"),
            caption="../workflow/report/choice.rst",
            category="Choice",
            labels={"what": "what won, and by how much"},
        ),
        report(
            LAYOUT.report("sweep.html"),
            caption="../workflow/report/table.rst",
            category="Choice",
            labels={"what": "every point"},
        ),
        report(
            LAYOUT.report("checks.html"),
            caption="../workflow/report/checks.rst",
            category="Choice",
            labels={"what": "checks of every point"},
        ),
    log:
        LAYOUT.log("report", "summary"),
    localrule: True
    conda:
        ENV
    params:
        plan=PLAN,
    shell:
        "mace-lora report {params.plan:q} summary 2> {log:q}"


rule audit_page:
    # how the labels go with the foundation model, and what was found in them
    input:
        mark("report", "audit_page"),
        needs("report", "audit_page"),
    output:
        LAYOUT.receipt("report", "audit_page"),
        report(
            LAYOUT.report("audit.html"),
            caption="../workflow/report/audit.rst",
            category="Data",
            labels={"what": "labels against the foundation model"},
        ),
    log:
        LAYOUT.log("report", "audit_page"),
    localrule: True
    conda:
        ENV
    params:
        plan=PLAN,
    shell:
        "mace-lora report {params.plan:q} audit_page 2> {log:q}"


rule trust_page:
    # how well the bounds of force errors hold
    input:
        mark("report", "trust_page"),
        needs("report", "trust_page"),
    output:
        LAYOUT.receipt("report", "trust_page"),
        report(
            LAYOUT.report("trust.html"),
            caption="../workflow/report/trust.rst",
            category="Errors",
            labels={"what": "do the bounds of force errors hold?"},
        ),
    log:
        LAYOUT.log("report", "trust_page"),
    localrule: True
    conda:
        ENV
    params:
        plan=PLAN,
    shell:
        "mace-lora report {params.plan:q} trust_page 2> {log:q}"


rule tables:
    # what it cost, the new E0s, the split
    input:
        mark("report", "tables"),
        needs("report", "tables"),
    output:
        LAYOUT.receipt("report", "tables"),
        report(
            LAYOUT.report("cost.html"),
            caption="../workflow/report/cost.rst",
            category="Training",
            labels={"what": "time, memory, GPU hours"},
        ),
        report(
            LAYOUT.report("e0s.html"),
            caption="../workflow/report/e0s.rst",
            category="Data",
            labels={"what": "atomic reference energies"},
        ),
        report(
            LAYOUT.report("split.html"),
            caption="../workflow/report/split.rst",
            category="Data",
            labels={"what": "training, validation and test sets"},
        ),
    log:
        LAYOUT.log("report", "tables"),
    localrule: True
    conda:
        ENV
    params:
        plan=PLAN,
    shell:
        "mace-lora report {params.plan:q} tables 2> {log:q}"


rule figures:
    # heat maps, learning curves, parity plots; the numbers behind each lie beside it as csv
    input:
        mark("report", "figures"),
        needs("report", "figures"),
    output:
        LAYOUT.receipt("report", "figures"),
        report(
            LAYOUT.figure("heatmap"),
            caption="../workflow/report/heatmap.rst",
            category="Choice",
            labels={"what": "rank x alpha"},
        ),
        report(
            LAYOUT.figure("forgetting"),
            caption="../workflow/report/forgetting.rst",
            category="Choice",
            labels={"what": "error against forgetting"},
        ),
        report(
            LAYOUT.figure("methods"),
            caption="../workflow/report/methods.rst",
            category="Choice",
            labels={"what": "the best of each method"},
        ),
        report(
            LAYOUT.figure("parameters"),
            caption="../workflow/report/parameters.rst",
            category="Choice",
            labels={"what": "error against trainable parameters"},
        ),
        report(
            LAYOUT.figure("learning_curves"),
            caption="../workflow/report/learning_curves.rst",
            category="Training",
            labels={"what": "learning curves"},
        ),
        report(
            LAYOUT.figure("parity"),
            caption="../workflow/report/parity.rst",
            category="Errors",
            labels={"what": "parity of the chosen model"},
        ),
        report(
            LAYOUT.figure("spectrum"),
            caption="../workflow/report/spectrum.rst",
            category="Training",
            labels={"what": "singular values"},
        ),
    log:
        LAYOUT.log("report", "figures"),
    localrule: True
    conda:
        ENV
    params:
        plan=PLAN,
    shell:
        "mace-lora report {params.plan:q} figures 2> {log:q}"


rule errors_page:
    # errors by element, config_type, force size and direction; the worst frames
    input:
        mark("report", "errors_page"),
        needs("report", "errors_page"),
    output:
        LAYOUT.receipt("report", "errors_page"),
        report(
            LAYOUT.report("errors.html"),
            caption="../workflow/report/errors.rst",
            category="Errors",
            labels={"what": "by element, force size, direction; worst frames"},
        ),
        report(
            LAYOUT.figure("error_elements"),
            caption="../workflow/report/error_elements.rst",
            category="Errors",
            labels={"what": "force errors by element"},
        ),
        report(
            LAYOUT.figure("error_sizes"),
            caption="../workflow/report/error_sizes.rst",
            category="Errors",
            labels={"what": "force errors against force size"},
        ),
        report(
            LAYOUT.figure("error_distribution"),
            caption="../workflow/report/error_distribution.rst",
            category="Errors",
            labels={"what": "distributions of errors"},
        ),
    log:
        LAYOUT.log("report", "errors_page"),
    localrule: True
    conda:
        ENV
    params:
        plan=PLAN,
    shell:
        "mace-lora report {params.plan:q} errors_page 2> {log:q}"


rule race_page:
    # who was stopped when and why, and how sure the choice is
    input:
        mark("report", "race_page"),
        needs("report", "race_page"),
    output:
        LAYOUT.receipt("report", "race_page"),
        report(
            LAYOUT.report("race.html"),
            caption="../workflow/report/race.rst",
            category="Choice",
            labels={"what": "who was stopped in the race"},
        ),
    log:
        LAYOUT.log("report", "race_page"),
    localrule: True
    conda:
        ENV
    params:
        plan=PLAN,
    shell:
        "mace-lora report {params.plan:q} race_page 2> {log:q}"


rule rank_curve:
    # trained ranks against cut ones
    input:
        mark("report", "rank_curve"),
        needs("report", "rank_curve"),
    output:
        LAYOUT.receipt("report", "rank_curve"),
        report(
            LAYOUT.figure("rank_curve"),
            caption="../workflow/report/rank_curve.rst",
            category="Choice",
            labels={"what": "trained against cut ranks"},
        ),
    log:
        LAYOUT.log("report", "rank_curve"),
    localrule: True
    conda:
        ENV
    params:
        plan=PLAN,
    shell:
        "mace-lora report {params.plan:q} rank_curve 2> {log:q}"


rule data_size:
    # errors against the number of training structures
    input:
        mark("report", "data_size"),
        needs("report", "data_size"),
    output:
        LAYOUT.receipt("report", "data_size"),
        report(
            LAYOUT.figure("data_size"),
            caption="../workflow/report/data_size.rst",
            category="Choice",
            labels={"what": "error against training structures"},
        ),
    log:
        LAYOUT.log("report", "data_size"),
    localrule: True
    conda:
        ENV
    params:
        plan=PLAN,
    shell:
        "mace-lora report {params.plan:q} data_size 2> {log:q}"


rule card:
    # what the exported model is, how the engines did, and how to load it
    input:
        mark("report", "card_page"),
        needs("report", "card_page"),
    output:
        LAYOUT.receipt("report", "card_page"),
        report(
            LAYOUT.report("card.html"),
            caption="../workflow/report/card.rst",
            category="Choice",
            labels={"what": "the chosen model, exported"},
        ),
    log:
        LAYOUT.log("report", "card_page"),
    localrule: True
    conda:
        ENV
    params:
        plan=PLAN,
    shell:
        "mace-lora report {params.plan:q} card_page 2> {log:q}"


rule dashboard:
    # every point, error, training, worst structure and curve, to look around in
    input:
        mark("report", "dashboard"),
        needs("report", "dashboard"),
    output:
        LAYOUT.receipt("report", "dashboard"),
        report(
            LAYOUT.report("dashboard.html"),
            caption="../workflow/report/dashboard.rst",
            category="Choice",
            labels={"what": "dashboard, to look around in"},
        ),
    log:
        LAYOUT.log("report", "dashboard"),
    localrule: True
    conda:
        ENV
    params:
        plan=PLAN,
    shell:
        "mace-lora report {params.plan:q} dashboard 2> {log:q}"
