"""A stranger's half hour: what a person does with nothing but README and docs, step after step, as processes.

`pages` finds a command in the page that tells of it, `home` is the person's folder and what lies there,
`script` has the kinds of steps and runs them; the steps are tables: `first`, `talk`, `numbers`, `python`,
`mistakes`.
"""
