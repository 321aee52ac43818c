"""The drawing of a graph: what shares a box, where boxes stand, and how dark they are."""

from xml.etree import ElementTree

from edgewright.report.charts.graph import MIN_ROWS, NodeHeat, draw_graph, list_heaviest
from edgewright.schema.model import GraphNode


def node(name: str, op: str, *inputs: str) -> GraphNode:
    return GraphNode(name=name, op=op, inputs=inputs, outputs=(f"{name}.out",))


def draw(nodes: list[GraphNode], heats: dict[str, NodeHeat], address: str = "") -> ElementTree.Element:
    return ElementTree.fromstring(draw_graph(nodes, heats, "time", address))


def list_boxes(root: ElementTree.Element) -> list[str]:
    texts = (one for one in root.iter() if one.tag.endswith("text"))
    return [one.text or "" for one in texts if one.attrib.get("text-anchor") != "end"]


def test_quantization_and_activations_share_a_box() -> None:
    nodes = [
        node("a", "Conv", "x"),
        node("q", "QuantizeLinear", "a.out"),
        node("d", "DequantizeLinear", "q.out"),
        node("r", "Relu", "d.out"),
        node("b", "Conv", "r.out"),
    ]
    root = draw(nodes, {})
    assert list_boxes(root) == ["Conv + Relu", "Conv"]
    assert sum(one.tag.endswith("path") for one in root.iter()) == 1


def test_a_node_that_two_read_keeps_its_own_box() -> None:
    nodes = [node("a", "Conv", "x"), node("r", "Relu", "a.out"), node("s", "Add", "a.out", "r.out")]
    assert list_boxes(draw(nodes, {})) == ["Conv", "Relu", "Add"]


def test_nodes_of_another_layer_are_not_joined() -> None:
    nodes = [node("a", "Conv", "x"), node("r", "Relu", "a.out")]
    one = {"a": NodeHeat(share=0.5, layer=3), "r": NodeHeat(share=0.5, layer=3)}
    assert list_boxes(draw(nodes, one)) == ["Conv + Relu"]
    assert list_boxes(draw(nodes, one | {"r": NodeHeat(share=0.1, layer=4)})) == ["Conv", "Relu"]


def test_the_largest_share_is_darkest_and_boxes_lead_to_their_layer() -> None:
    nodes = [node("a", "Conv", "x"), node("b", "Conv", "a.out"), node("c", "Conv", "b.out")]
    heats = {"a": NodeHeat(share=0.6, layer=0), "b": NodeHeat(share=0.1, layer=1)}
    root = draw(nodes, heats, "/runs/R")
    rects = [one.attrib["class"] for one in root.iter() if one.tag.endswith("rect")]
    assert rects == ["node heat6", "node heat1", "node heat0"]
    links = [(one.attrib["href"], one.attrib["data-layer"]) for one in root.iter() if "href" in one.attrib]
    assert links == [("/runs/R#layer-0", "0"), ("/runs/R#layer-1", "1")]
    assert list_heaviest(heats.items(), 1) == [("a", 0.6)]


def test_long_graphs_go_on_in_the_next_column() -> None:
    count = MIN_ROWS * 2 + 1
    nodes = [node(f"n{place}", "Conv", f"n{place - 1}.out" if place else "x") for place in range(count)]
    root = draw(nodes, {})
    places = [(one.attrib["x"], one.attrib["y"]) for one in root.iter() if one.tag.endswith("rect")]
    assert len(set(places)) == count
    assert len({x for x, _ in places}) == 3
    assert sum("far" in one.attrib.get("class", "") for one in root.iter()) == 2
