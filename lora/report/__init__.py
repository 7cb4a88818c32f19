"""Pages, figures, words; reads what selection and steps wrote."""
