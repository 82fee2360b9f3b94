"""Draw the flow from the real asset graph, as Mermaid: ``python docs/draw_flow.py`` prints what README.md shows."""

from aind_pipelines.definitions import defs


def draw() -> str:
    """The asset graph as a Mermaid flowchart, grouped as in the Dagster UI."""
    graph = defs.resolve_asset_graph()
    nodes = [graph.get(key) for key in graph.toposorted_asset_keys]
    lines = ["flowchart LR"]
    groups: dict[str, list[str]] = {}
    for node in nodes:
        groups.setdefault(node.group_name, []).append(node.key.to_user_string())
    for group, names in groups.items():
        lines.append(f"    subgraph g_{group}[{group}]")
        lines += [f"        {name}" for name in sorted(names)]
        lines.append("    end")
    lines += sorted(
        f"    {parent.to_user_string()} --> {node.key.to_user_string()}"
        for node in nodes
        for parent in node.parent_keys
    )
    return "\n".join(lines)


if __name__ == "__main__":
    print(draw())
