"""The paper's tables and figures again; `python -m research.reproduce` is the command. Begin with targets.py.

| files | what they do |
|---|---|
| published | what the paper and its peers report |
| study, systems | settings of a call; which configuration each row is |
| data, runs, run_pool | prepared clips; what is trained; several processes at a time |
| fit_peer, fit_log_mel_network | what a run's process does, where it is not train.py |
| protocol | the faults of the published evaluation, on request |
| measure, measured, merit, bands | costs and scores of a run; figures over seeds; AUC without a band |
| table_1, table_2, ablation, figures_2_and_3, figure_4 | a report each |
| report, wording, cells, dot_plot, frequencies | what reports share |
| workshop, targets | from runs to reports |
"""
