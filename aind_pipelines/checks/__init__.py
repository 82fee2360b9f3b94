"""Asset checks, one module per stage, named as the assets they check.

A check reads what a stage left behind and says pass or fail, with the numbers. Checks that must stop what is
downstream are blocking.
"""
