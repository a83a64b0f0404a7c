# The package ships stubs without py.typed; these are of what tortie.validation.rules uses.
