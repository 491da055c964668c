"""The dashboard of AckScope: an application folder, run with ``streamlit run dashboard``; not part of the wheel."""
